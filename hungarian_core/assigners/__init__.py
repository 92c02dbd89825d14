"""Which queries learn which object, several for each: the assigners of dense detectors.

A detector with a query at each place of its feature maps takes several of them for an object, by a
rule instead of a matching. An assigner is such a rule. It is called with the outputs of a model and
the targets, in the forms that `hungarian_core.SetLoss` takes, and returns `Assigned`, of which
``row4col`` goes to a loss as ``assignment=``:

- `TaskAligned`: the queries whose class and box agree best, as in TOOD and YOLOv8 to YOLO26;
- `SimOTA`: as many of least cost as the overlaps add up to, as in YOLOX;
- `ATSS`: the anchors near an object that overlap it more than is usual there, by no prediction.

Queries lie at `points` `(Q, 2)`, with a stride each, or at `anchors` `(Q, 4)`, in the unit of the
boxes, such as pixels. Nothing of this is differentiated. Where values are equal the first one is
taken, so that the result is the same in every framework. `hungarian_core.assign_many` is the exact
counterpart, at least total cost.
"""

from hungarian_core.assigners.atss import ATSS
from hungarian_core.assigners.dense import Assigned
from hungarian_core.assigners.sim_ota import SimOTA
from hungarian_core.assigners.task_aligned import TaskAligned

__all__ = ["ATSS", "Assigned", "SimOTA", "TaskAligned"]
__dir__ = __all__.copy
