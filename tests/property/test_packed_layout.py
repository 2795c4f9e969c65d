"""Packing changes nothing, whatever the lengths and their order."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.batch import TokenBatch
from models.layers.attend import AttentionTerms
from models.layers.layout import PackedLayout, PaddedLayout

lengths = st.lists(st.integers(1, 9), min_size=1, max_size=12)


def layout_of(seqlens: list[int], *, causal: bool = False) -> PackedLayout:
    return PackedLayout.of(TokenBatch.from_sequences([[5] * length for length in seqlens]), causal=causal)


@given(lengths, st.integers(0, 2**32))
def test_counting_starts_again_with_each_sequence(seqlens: list[int], seed: int) -> None:
    flags = torch.randint(0, 2, (sum(seqlens),), generator=torch.Generator().manual_seed(seed))
    expected = [PaddedLayout().running_count(row[None])[0] for row in flags.split(seqlens)]
    assert torch.equal(layout_of(seqlens).running_count(flags), torch.cat(expected))


@given(lengths)
def test_runs_cover_every_sequence_once(seqlens: list[int]) -> None:
    runs = layout_of(seqlens).runs
    assert [run.length for run in runs for _ in range((run.stop - run.start) // run.length)] == seqlens
    assert [run.start for run in runs] == [0, *(run.stop for run in runs[:-1])]


@settings(deadline=None, max_examples=30)
@given(lengths, st.booleans(), st.booleans())
def test_sequences_see_themselves_alone(seqlens: list[int], causal: bool, fused: bool) -> None:
    generator = torch.Generator().manual_seed(len(seqlens))
    query, key, value = torch.randn((3, sum(seqlens), 2, 4), generator=generator)
    terms = AttentionTerms(output_attentions=not fused)
    packed, _ = layout_of(seqlens, causal=causal).attend(query, key, value, terms)
    start = 0
    for length in seqlens:
        rows = slice(start, start + length)
        alone, _ = layout_of([length], causal=causal).attend(query[rows], key[rows], value[rows], terms)
        torch.testing.assert_close(packed[rows], alone)
        start += length
