"""The old door: every flag of `run_bert_cls.py`, done by the rooms that serve the other doors."""

from __future__ import annotations

import os
from collections.abc import Sequence

from bert_cls.errors import exit_code
from bert_cls.failures import explained
from bert_cls.legacy.flags import check, make_parser, waits_for_first
from bert_cls.legacy.log import LOG, logging_to_stderr, say
from bert_cls.legacy.words import in_old_words
from bert_cls.quiet import quiet_hub

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the flags ask for; the exit code. `argv` as in `sys.argv[1:]`, which it defaults to.

    Errors of ours become log lines, never a traceback; 1 when some rows could not be predicted.
    """
    arguments = make_parser().parse_args(argv)
    quiet_hub()
    if arguments.no_cuda:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # read when torch is imported, which comes later
    with logging_to_stderr():
        try:
            if waits_for_first(arguments):
                rank = arguments.local_rank or os.environ.get("RANK")
                LOG.warning("process %s leaves the work to process 0", rank)
                return 0
            if "WORLD_SIZE" in os.environ:
                os.environ["WORLD_SIZE"] = "1"  # of several processes only this one works
            check(arguments)
            from bert_cls.legacy.steps import run

            return run(arguments)
        except KeyboardInterrupt:
            LOG.error("stopped")
            return 130
        except Exception as error:
            if (known := explained(error)) is None:
                raise
            say(LOG.error, in_old_words(str(known), arguments))
            return exit_code(known)
