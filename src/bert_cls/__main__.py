"""`python -m bert_cls` is `bert-cls`, for launchers that start modules."""

from bert_cls.cli import main

if __name__ == "__main__":
    main()
