"""Runs a study: arms that are variants of one config, each with several seeds.

    python experiments/ablate.py --study=configs/studies/digits.py --workdir=runs/studies/digits

The same command goes on with a study that was stopped, and runs only what is new after seeds or arms were added to the
file. `tlx worker WORKDIR`, here or on other machines, runs trials of the same study (docs/studies.md).
"""

from tlx.errors import one_sentence

with one_sentence():  # from here on, signals and a broken installation end the script with one sentence
    from pathlib import Path

    from absl import flags

    from tlx.cli.launch import run

    STUDY = flags.DEFINE_string("study", None, "The study file, FILE.py[:ARGUMENT].")
    WORKDIR = flags.DEFINE_string("workdir", None, "The study's directory.")
    FULL = flags.DEFINE_bool("full", False, "Run the full form of the study.")
    WORKERS = flags.DEFINE_integer("workers", 1, "Worker processes that share all devices; 0: only make the plan.", 0)
    PER_GPU = flags.DEFINE_integer("per_gpu", 0, "Worker processes on each GPU, in place of --workers.", 0)
    STORAGE = flags.DEFINE_string("storage", None, "URL of Optuna's storage; by default SQLite in the directory.")
    HEARTBEAT = flags.DEFINE_integer("heartbeat", 20, "Seconds between two heartbeats of a worker.", 1)
    RETRY = flags.DEFINE_bool("retry_failed", False, "Run failed runs again.")
    flags.mark_flags_as_required(["study", "workdir"])


def main(argv: list[str]) -> None:
    """Conducts the study."""
    del argv
    with one_sentence():
        from tlx.studies.conduct import conduct

        records = conduct(
            STUDY.value, Path(WORKDIR.value), full=FULL.value, workers=WORKERS.value, per_gpu=PER_GPU.value,
            storage=STORAGE.value, heartbeat=HEARTBEAT.value, retry_failed=RETRY.value,
        )  # fmt: skip
        failed = [record for record in records if record.state == "failed"]
        for record in failed:
            print(f"{record.arm}, seed {record.seed} failed: {record.error}")
        if not WORKERS.value and not PER_GPU.value:
            for arm in dict.fromkeys(record.arm for record in records):
                print(f"{arm}: seeds {', '.join(str(record.seed) for record in records if record.arm == arm)}")
        complete = sum(record.state == "complete" for record in records)
        print(f"{complete} of {len(records)} runs are complete, {len(failed)} failed; {WORKDIR.value}/study.json")
        if failed:
            raise SystemExit(1)


if __name__ == "__main__":
    run(main)
