"""Weights and their model card uploaded to the Hugging Face Hub, as one commit."""

from collections.abc import Sequence
from pathlib import Path

from deblur_cli.weights.hub import HubFile

README = "README.md"  # what the Hub shows as a model card


def publish(repository: str, files: Sequence[Path], card: str, licence: str, *, private: bool) -> str:
    """Upload files and card to a model repository, made if there is none, and return the commit.

    card: Markdown; licence: as the Hub names it, such as "apache-2.0"
    Raises WeightsError for all that can go wrong on the way.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from deblur_cli.weights.hub_errors import explained, quiet

    text = f"---\nlicense: {licence}\nlibrary_name: deblur\npipeline_tag: image-to-image\n---\n\n{card}"
    contents = [(file.name, file) for file in files]
    with explained(HubFile(repository, files[0].name), upload=True), quiet(), disable_progress_bars():
        api = HfApi(library_name="deblur")
        api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, file) for name, file in contents]
        operations.append(CommitOperationAdd(README, text.encode()))
        commit = api.create_commit(repository, operations, commit_message=f"Add {files[0].name}")
    return commit.oid
