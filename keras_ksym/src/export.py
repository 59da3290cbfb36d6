"""The export of Keras's models as TensorFlow's SavedModel, which is refused."""

from __future__ import annotations


class SavedModelExportArchive:
    """The base class of Keras's export archives: there are none of ksym's."""

    def __init__(self) -> None:
        raise NotImplementedError(
            "`export_saved_model` only currently supports the tensorflow, jax and torch backends. "
            "To do: save the model by model.save('model.keras'), load it with one of them, and "
            "export it there; or export a function of ksym's by ksym.export_onnx."
        )
