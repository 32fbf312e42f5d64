"""What `interlip interpolate` keeps on request: the network in a folder (--save) or, with ReLU
neurons, as a model file (--relu-file); a picture of it (--plot)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cluster.output.picture_files import check_picture_file, write_picture
from cluster.output.terminal import EXIT_ERROR, Exit, say
from solvers.errors import InputError

if TYPE_CHECKING:
    from solvers.networks.detectors import BuiltNetwork
    from solvers.problems.interpolants import Interpolant
    from solvers.problems.questions import InterpolationProblem
    from tasks.data_sets import LabelledPoints

__all__ = ["Kept", "Wishes"]


@dataclass(frozen=True, slots=True)
class Kept:
    """What became of the files asked for.

    Attributes:
        document: what `--json` says of them.
        trouble: why the command ends with 1, None if it does not.
    """

    document: dict[str, Any] = field(default_factory=dict)
    trouble: str | None = None

    def show(self) -> None:
        """Tell people where the files are."""
        for form, path in (self.document.get("saved") or {}).items():
            if path is not None:
                print(f"saved, checked        {path} ({form})")
        if self.document.get("relu_file") is not None:
            print(f"saved, checked        {self.document['relu_file']} (for interlip lipschitz)")
        if self.document.get("plot") is not None:
            print(f"drawn                 {self.document['plot']}")

    def end(self) -> None:
        """Say what went wrong and leave, after the answer has been shown."""
        if self.trouble is not None:
            say(f"interlip: {self.trouble}")
            raise Exit(EXIT_ERROR)


@dataclass(frozen=True, slots=True)
class Wishes:
    """The files asked for.

    Attributes:
        save: folder for the network, or None. plot: file for the picture, or None.
        shape: (C, H, W) of a point as a picture as far as it is known; the plane, or a square, otherwise.
        load: gives the data as they are, not scaled.
        relu_file: model file for the ReLU network, or None.
    """

    save: str | None
    plot: str | None
    shape: tuple[int, int, int] | None
    load: Callable[[], LabelledPoints]
    relu_file: str | None = None

    def check_places(self) -> None:
        """Raise InputError for places where nothing can be written, before the data are read."""
        if self.save is not None:
            from cluster.output.saved_networks import check_save_folder

            check_save_folder(self.save)
        if self.plot is not None:
            check_picture_file(self.plot)
        if self.relu_file is not None:
            from cluster.output.relu_files import check_relu_file

            check_relu_file(self.relu_file)

    def check_data(self, problem: InterpolationProblem) -> None:
        """Raise InputError for labels that cannot be stored and points that make no picture."""
        if self.save is not None:
            from solvers.files.threshold_npz import check_storable

            check_storable(problem.classes)
        if self.plot is not None:
            from tasks.figures.pictures import picture_shape

            picture_shape(problem.points.shape[1], self.shape)

    def fulfil(self, answer: Interpolant | None, problem: InterpolationProblem) -> Kept:
        """Write the files, none without an answer. Trouble is handed back, so that the answer can still be shown."""
        asked = {"saved": self.save, "plot": self.plot, "relu_file": self.relu_file}
        if answer is None or not any(asked.values()):
            return Kept({name: None for name, place in asked.items() if place is not None})
        data = self.load()
        network = answer.network.rescaled(data.radius or 1.0)
        document: dict[str, Any] = {}
        troubles = []
        if self.save is not None:
            document["saved"], trouble = _save(self.save, answer, network, data, problem)
            troubles.append(trouble)
        if self.plot is not None:
            document["plot"], trouble = self._draw(self.plot, answer, network, data)
            troubles.append(trouble)
        if self.relu_file is not None:
            from cluster.output.relu_files import write_relu_file

            document["relu_file"], trouble = write_relu_file(self.relu_file, answer, data, problem)
            troubles.append(trouble)
        return Kept(document, "; ".join(trouble for trouble in troubles if trouble) or None)

    def _draw(
        self, path: str, answer: Interpolant, network: BuiltNetwork, data: LabelledPoints
    ) -> tuple[str | None, str | None]:
        from solvers.problems.questions import InterpolationProblem
        from tasks.figures.pictures import interpolation_figure, picture_shape

        shown = InterpolationProblem(data.points, data.labels)
        figure = interpolation_figure(network, shown, answer.centres, picture_shape(shown.points.shape[1], self.shape))
        try:
            write_picture(figure, path)
        except InputError as error:
            return None, str(error)
        return path, None


def _save(
    folder: str, answer: Interpolant, network: BuiltNetwork, data: LabelledPoints, problem: InterpolationProblem
) -> tuple[dict[str, str | None] | None, str | None]:
    """Paths by form, and why there are none."""
    from cluster.output.saved_networks import NotSavedError, save_checked

    if not answer.interpolates:
        missed = f"the network misses {len(answer.missed)} of {answer.points} points"
        return None, f"not saved: {missed}; {answer.status.advice}"
    try:
        return save_checked(folder, network, data.points, problem.labels), None
    except NotSavedError as error:
        return None, str(error)
