"""The old script's commands; `bert-cls` is the new way in. What changed: docs/legacy.md."""

import sys

from bert_cls.legacy import main

if __name__ == "__main__":
    sys.exit(main())
