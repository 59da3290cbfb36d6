"""The export of Keras's models as TensorFlow's SavedModel, which is refused."""

from __future__ import annotations

from typing import Any


class SavedModelExportArchive:
    """The base class of Keras's export archives."""

    def track(self, resource: Any) -> None:
        """Refuse to export."""
        raise NotImplementedError(
            "Keras's backend ksym does not export SavedModels. To do: save the model by "
            "model.save('model.keras'), load it with another backend, and export it there; or "
            "export a function of ksym with ksym.export_onnx."
        )

    add_endpoint = track
