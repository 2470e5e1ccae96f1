"""Programs that a model wrote, tried on the tests of a benchmark inside the sandbox (HumanEval, MBPP)."""
