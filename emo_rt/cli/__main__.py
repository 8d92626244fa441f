"""`python -m emo_rt.cli` is the command `emo-rt`."""

from emo_rt.cli import main

raise SystemExit(main())
