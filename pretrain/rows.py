"""Rows of segment pairs, packed from documents; any row can be built without those before it.

The documents of an epoch are laid one after another as a stream of units, a document of n tokens
taking n + 3: its own and one each for `<cls>` and two `<sep>`. A row of S positions covers S - 3
units; the three that are left are for the document that continues from the row before. What a row
holds therefore follows from the seed and its number alone, and training can resume, or change its
number of processes, with nothing but a step number.

For one stream to fit into memory and still be well mixed, documents are dealt into blocks: a block
is made of short runs of consecutive documents from all over the data set. Each epoch shuffles the
blocks, the documents of a block and the rows of a block.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np

from pretrain.shards import TokenShards
from starencoder.errors import ConfigError, DataError

MIN_SEGMENT = 8
"""No segment has fewer tokens; what is left of a document below twice as many becomes padding."""
LINE_REACH = 32
"""Tokens within which a cut is moved to a line's end."""
RUN = 256
"""Consecutive documents that stay in one block, so that reading is not all seeking."""
BLOCK = 65_536
"""Most documents in a block."""
DRAWS = 8
"""Places drawn to find a document that is long enough for a segment that is not the next one."""
CACHED_BLOCKS = 4
"""Blocks kept laid out: a step reads one block, or two where one ends."""

_SPECIALS = 3
_DEAL, _ORDER_OF_BLOCKS, _ORDER_IN_BLOCK, _ROW = range(4)


class Documents(Protocol):
    """What rows need of `pretrain.shards.DocumentSet`."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each document."""
        ...

    def __len__(self) -> int: ...

    def tokens(self, document: int, start: int, stop: int) -> np.ndarray:
        """Ids of a document's tokens `[start, stop)`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """What rows and masks need to know of a tokenizer."""

    size: int
    pad_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    special_ids: tuple[int, ...]
    """The four above and whatever else is never masked."""
    line_ends: np.ndarray
    """Bool `(size,)`: the token's text ends a line."""

    @classmethod
    def of(cls, shards: TokenShards) -> Self:
        """That of a data set's tokenizer."""
        manifest = shards.manifest
        return cls(
            size=manifest.vocab_size,
            pad_id=manifest.pad_id,
            cls_id=manifest.cls_id,
            sep_id=manifest.sep_id,
            mask_id=manifest.mask_id,
            special_ids=manifest.special_ids,
            line_ends=shards.line_ends,
        )


class Segment(NamedTuple):
    """Tokens `[start, stop)` of a document."""

    document: int
    start: int
    stop: int

    @property
    def num_tokens(self) -> int:
        """Its length."""
        return self.stop - self.start


class Pair(NamedTuple):
    """`<cls> first <sep> second <sep>`, beginning at a column of a row."""

    column: int
    first: Segment
    second: Segment
    is_next: bool
    """Whether the second segment follows the first in its document."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One row of a batch, not masked yet; all arrays have the shape `(seq_length,)`."""

    pairs: tuple[Pair, ...]
    input_ids: np.ndarray
    """uint16; padding after the last pair."""
    segment_ids: np.ndarray
    """uint8: 0 for `<cls>`, the first segment and its `<sep>`; 1 for the second and its `<sep>`."""
    position_ids: np.ndarray
    """uint16, from 0 in each pair."""
    pair_ids: np.ndarray
    """int16: which pair of the row; -1 for padding."""
    num_tokens: int
    """Positions that are not padding."""


@dataclass(frozen=True, slots=True, eq=False)
class _Layout:
    """A block's documents and rows in the order of one epoch."""

    documents: np.ndarray
    ends: np.ndarray
    """End of each document in the stream of units."""
    rows: np.ndarray


class Rows:
    """All rows of all epochs, by number; equal arguments give equal rows."""

    def __init__(
        self, documents: Documents, vocabulary: Vocabulary, *, seq_length: int, seed: int
    ) -> None:
        """Count the rows of an epoch, from the documents' lengths.

        Raises:
            ConfigError: Rows are too short for a pair.
            DataError: No document is long enough for one.
        """
        longest = int(documents.lengths.max()) if len(documents) else 0
        if longest < 2 * MIN_SEGMENT:
            raise DataError(
                f"the data set has {len(documents)} documents, the longest of {longest} tokens; "
                f"pairs need one of {2 * MIN_SEGMENT} or more: prepare it from more text"
            )
        if seq_length < 2 * MIN_SEGMENT + _SPECIALS:
            raise ConfigError(
                f"data.seq_length is {seq_length}; rows need {2 * MIN_SEGMENT + _SPECIALS} tokens "
                f"or more to hold a pair"
            )
        self.documents = documents
        self.vocabulary = vocabulary
        self.seq_length = seq_length
        self._seed = seed
        self._units_per_row = seq_length - _SPECIALS

        run_starts = np.arange(0, len(documents), RUN)
        run_lengths = np.diff(run_starts, append=len(documents))
        run_units = np.add.reduceat(documents.lengths, run_starts, dtype=np.int64)
        run_units += _SPECIALS * run_lengths
        runs = _generator(seed, _DEAL, 0, 0).permutation(len(run_starts))
        self._blocks = np.array_split(runs, -(-len(documents) // BLOCK))
        units = np.array([run_units[block].sum() for block in self._blocks])
        self._rows_of_block = -(-units // self._units_per_row)
        self._layouts: OrderedDict[tuple[int, int], _Layout] = OrderedDict()
        self._epoch = -1
        self._block_order = np.empty(0, np.int64)
        self._block_ends = np.empty(0, np.int64)

    @property
    def rows_per_epoch(self) -> int:
        """Rows in which every document is read once."""
        return int(self._rows_of_block.sum())

    def generator(self, number: int) -> np.random.Generator:
        """A source of random numbers that belongs to a row."""
        epoch, place = divmod(number, self.rows_per_epoch)
        return _generator(self._seed, _ROW, epoch, place)

    def row(self, number: int, rng: np.random.Generator) -> Row:
        """Build a row; `number` counts on over the epochs, `rng` cuts and pairs the segments."""
        vocabulary = self.vocabulary
        input_ids = np.full(self.seq_length, vocabulary.pad_id, np.uint16)
        segment_ids = np.zeros(self.seq_length, np.uint8)
        position_ids = np.zeros(self.seq_length, np.uint16)
        pair_ids = np.full(self.seq_length, -1, np.int16)

        layout, start, stop = self._find(number)
        segments = self._segments(layout, start, stop)
        chances = rng.random((len(segments), 2 + DRAWS + 1)).tolist()
        pairs: list[Pair] = []
        column = 0
        for (place, segment), (where, other, *draws) in zip(segments, chances, strict=True):
            cut = self._cut(segment, where)
            first = Segment(segment.document, segment.start, cut)
            second = Segment(segment.document, cut, segment.stop)
            substitute = self._elsewhere(layout, place, second, draws) if other < 0.5 else None
            if substitute is not None:
                second = substitute
            middle = column + 1 + first.num_tokens
            end = middle + 1 + second.num_tokens
            input_ids[column] = vocabulary.cls_id
            input_ids[column + 1 : middle] = self.documents.tokens(*first)
            input_ids[middle] = vocabulary.sep_id
            input_ids[middle + 1 : end] = self.documents.tokens(*second)
            input_ids[end] = vocabulary.sep_id
            segment_ids[middle + 1 : end + 1] = 1
            position_ids[column : end + 1] = np.arange(end + 1 - column)
            pair_ids[column : end + 1] = len(pairs)
            pairs.append(Pair(column, first, second, substitute is None))
            column = end + 1
        return Row(tuple(pairs), input_ids, segment_ids, position_ids, pair_ids, column)

    def _find(self, number: int) -> tuple[_Layout, int, int]:
        """A row's block and its units `[start, stop)` there."""
        epoch, place = divmod(number, self.rows_per_epoch)
        if epoch != self._epoch:
            order = _generator(self._seed, _ORDER_OF_BLOCKS, epoch, 0)
            self._block_order = order.permutation(len(self._blocks))
            self._block_ends = np.cumsum(self._rows_of_block[self._block_order])
            self._epoch = epoch
        turn = int(np.searchsorted(self._block_ends, place, side="right"))
        block = int(self._block_order[turn])
        layout = self._layout(epoch, block)
        first = int(self._block_ends[turn] - self._rows_of_block[block])
        start = int(layout.rows[place - first]) * self._units_per_row
        return layout, start, min(start + self._units_per_row, int(layout.ends[-1]))

    def _layout(self, epoch: int, block: int) -> _Layout:
        layout = self._layouts.get((epoch, block))
        if layout is None:
            rng = _generator(self._seed, _ORDER_IN_BLOCK, epoch, block)
            documents = (self._blocks[block][:, None] * RUN + np.arange(RUN)).ravel()
            documents = rng.permutation(documents[documents < len(self.documents)])
            units = self.documents.lengths[documents].astype(np.int64) + _SPECIALS
            rows = rng.permutation(int(self._rows_of_block[block]))
            layout = self._layouts[epoch, block] = _Layout(documents, np.cumsum(units), rows)
            if len(self._layouts) > CACHED_BLOCKS:
                self._layouts.popitem(last=False)
        return layout

    def _segments(self, layout: _Layout, start: int, stop: int) -> list[tuple[int, Segment]]:
        """The parts of documents in the units `[start, stop)`, each with its place there."""
        first = int(np.searchsorted(layout.ends, start, side="right"))
        last = int(np.searchsorted(layout.ends, stop, side="left"))
        segments = []
        begin = int(layout.ends[first - 1]) if first else 0
        for place in range(first, last + 1):
            end = int(layout.ends[place])
            # A document's units are its three special tokens first, then its own.
            own = begin + _SPECIALS
            segment = Segment(
                int(layout.documents[place]), max(start, own) - own, min(stop, end) - own
            )
            if segment.num_tokens >= 2 * MIN_SEGMENT:
                segments.append((place, segment))
            begin = end
        return segments

    def _cut(self, segment: Segment, where: float) -> int:
        """Where the second segment begins: at a line's start near a point of the middle half."""
        lowest, highest = segment.start + MIN_SEGMENT, segment.stop - MIN_SEGMENT
        point = segment.start + round(segment.num_tokens * (1 + 2 * where) / 4)
        return self._line_start(segment.document, min(max(point, lowest), highest), lowest, highest)

    def _line_start(self, document: int, point: int, lowest: int, highest: int) -> int:
        """The line's start nearest to a point, within reach and the bounds; else the point."""
        low, high = max(lowest, point - LINE_REACH), min(highest, point + LINE_REACH)
        starts_line = self.vocabulary.line_ends[
            self.documents.tokens(document, max(low - 1, 0), high)
        ]
        if low == 0:
            starts_line = np.append(True, starts_line)
        starts = np.flatnonzero(starts_line) + low
        return int(starts[np.abs(starts - point).argmin()]) if len(starts) else point

    def _elsewhere(
        self, layout: _Layout, place: int, successor: Segment, draws: list[float]
    ) -> Segment | None:
        """A segment of another document that could be the successor, but for what it says.

        It begins at a line's start, if one is near, and ends its document if the successor ends
        its own, or else does not: a model must not tell the two by how they end. It is shorter
        than the successor by what is missing to a line's start, or by more where no document that
        was drawn is long enough.

        All draws but the last are places in the block's stream, so that every token is as likely;
        the last is any other document, for blocks that are mostly one document. None: the draws
        found no other document of at least `MIN_SEGMENT` tokens.
        """
        length = successor.num_tokens
        own = int(layout.documents[place])
        ends = int(successor.stop == self.documents.lengths[own])
        units = int(layout.ends[-1])
        drawn = [int(draw * units) for draw in draws[:-1]]
        places = np.searchsorted(layout.ends, drawn, side="right").tolist()
        others = len(layout.documents) - 1
        if others:
            places.append((place + 1 + int(draws[-1] * others)) % (others + 1))
            drawn.append(0)
        best: Segment | None = None
        for other, unit in zip(places, drawn, strict=True):
            document = int(layout.documents[other])
            total = int(self.documents.lengths[document])
            if total < MIN_SEGMENT or self._is_same(own, document):
                continue
            # Where it can begin at the latest, and still be as long and not end the document.
            latest = total - length - (1 - ends)
            if latest < 0:
                stop = total if ends else total - 1
                if stop >= MIN_SEGMENT and (best is None or stop > best.num_tokens):
                    best = Segment(document, 0, stop)
            elif ends:
                highest = min(latest + LINE_REACH, total - MIN_SEGMENT)
                start = self._line_start(document, latest, latest, max(latest, highest))
                return Segment(document, start, total)
            else:
                offset = unit - (int(layout.ends[other]) - total)
                point = min(max(offset, 0), latest)
                start = self._line_start(document, point, 0, latest)
                return Segment(document, start, start + length)
        return best

    def _is_same(self, one: int, other: int) -> bool:
        """Whether two entries are one document: entries repeat where a language has more weight."""
        if one == other:
            return True
        length = int(self.documents.lengths[one])
        return length == int(self.documents.lengths[other]) and np.array_equal(
            self.documents.tokens(one, 0, length), self.documents.tokens(other, 0, length)
        )


def _generator(seed: int, purpose: int, epoch: int, number: int) -> np.random.Generator:
    """Random numbers that differ for each argument and are reached without drawing any others."""
    # The lowest word counts what is drawn.
    counter = np.array([0, purpose, number, epoch], np.uint64)
    key = np.array([seed & 0xFFFF_FFFF_FFFF_FFFF, 0], np.uint64)
    return np.random.Generator(np.random.Philox(counter=counter, key=key))
