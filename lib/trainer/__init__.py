"""The local trainer: a process that works in one job folder, knows no UI, and runs alone.

    python -m lib.trainer JOB_FOLDER            train what job.json asks for
    python -m lib.trainer.talk JOB_FOLDER       talk to the result and to its base model
    python -m lib.trainer.see --model … --data … show a row as the model reads it

`train.py` is the run from start to end; `model.py` loads a model folder, `data.py` turns conversations into
tokens and marks what is learned, `progress.py` reports and listens for a stop, `checkpoints.py` lets an
interrupted run go on, `ranks.py` shares it between several graphics cards, `precision.py` says where bf16 is
quick, `failure.py` what went wrong. Nothing here imports torch before it is needed.
"""
