"""Points that stand in both the training and the held-out set, and an audit without them.

A value in both sets hides its copies: a sample of it is as near to the one as to the other. Taken
out of the held-out set alone, it would leave the training set with every popular image, and an
innocent sample of one would be called a copy. It is taken out of both sets, and samples that equal
it out of the tests. What is left of a repeated value then stands in one set alone, which the label
test knows (`genonset.labels`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genonset.errors import DataError
from genonset.findings import Evidence, Flagged
from genonset.neighbors import distinct, first_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class Unshared:
    """What is left of the sets without the values that are in both real ones.

    Attributes:
        rows: for each set the rows that are left.
        sizes: of each set before.
        left_out: samples that equal a shared value.
        training, held_out: for each of them a row of either set that it equals.
    """

    rows: dict[str, Tensor]
    sizes: dict[str, int]
    left_out: Tensor
    training: Tensor
    held_out: Tensor

    @property
    def note(self) -> str:
        """How many rows were left out."""
        gone = {name: self.sizes[name] - len(rows) for name, rows in self.rows.items()}
        return (
            f"{gone['training']} training and {gone['held_out']} held-out points stand in both "
            f"sets and were left out of both; so were {gone['generated']} samples that equal "
            "them, which tell nothing about copying."
        )

    def flagged(self, found: Sequence[Flagged]) -> tuple[Flagged, ...]:
        """The samples found, by their rows in the whole sets."""
        samples, points = self.rows["generated"].tolist(), self.rows["training"].tolist()
        return tuple(replace(f, index=samples[f.index], nearest=points[f.nearest]) for f in found)

    def evidence(self, found: Evidence) -> Evidence:
        """The distances of all samples: those left out are at 0 from both sets."""
        mine = self.rows["generated"]
        assert found.to_held_out is not None
        assert found.nearest_held_out is not None

        def whole(values: Tensor, rest: Tensor | float) -> Tensor:
            every = values.new_empty(self.sizes["generated"])
            every[mine], every[self.left_out] = values, torch.as_tensor(rest).to(values.dtype)
            return every

        training, held_out = self.rows["training"], self.rows["held_out"]
        return replace(
            found,
            to_training=whole(found.to_training, 0.0),
            nearest_training=whole(training[found.nearest_training], self.training),
            to_held_out=whole(found.to_held_out, 0.0),
            nearest_held_out=whole(held_out[found.nearest_held_out], self.held_out),
            p_values=whole(found.p_values, 1.0),
        )


def unshared(sets: dict[str, Tensor]) -> Unshared | None:
    """The sets without values that are in both real ones; None if there are none.

    Args:
        sets: "generated", "training" and, if there is one, "held_out", rows of the coordinates
            that are compared.

    Raises:
        DataError: if nothing is left of a set.
    """
    if "held_out" not in sets:
        return None
    names = ("training", "held_out", "generated")
    first, member = distinct(*(sets[name] for name in names))
    sizes = {name: len(sets[name]) for name in names}
    training, held_out, generated = member.split(list(sizes.values()))
    found = [first_rows(rows, len(first)) for rows in (training, held_out)]
    none = torch.iinfo(torch.int64).max
    shared = (found[0] < none) & (found[1] < none)
    if not bool(shared.any()):
        return None
    rows = {
        name: (~shared[values]).nonzero()[:, 0]
        for name, values in zip(names, (training, held_out, generated), strict=True)
    }
    for name, left in rows.items():
        if not len(left):
            raise DataError(
                f"Every point of {name} equals a point that is in both training and held_out, so "
                "nothing is left to compare. Pass held-out data that the model was not fitted to."
            )
    left_out = shared[generated].nonzero()[:, 0]
    return Unshared(
        rows={name: rows[name] for name in sets},
        sizes=sizes,
        left_out=left_out,
        training=found[0][generated[left_out]],
        held_out=found[1][generated[left_out]],
    )
