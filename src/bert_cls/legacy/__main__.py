"""`python -m bert_cls.legacy` is `python run_bert_cls.py` where only the package is installed."""

import sys

from bert_cls.legacy import main

sys.exit(main())
