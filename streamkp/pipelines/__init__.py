"""One call for a file or image: `streamkp.pipeline(task, model)`."""

from streamkp.pipelines.tasks import TASKS, Pipeline, pipeline

__all__ = ["TASKS", "Pipeline", "pipeline"]
