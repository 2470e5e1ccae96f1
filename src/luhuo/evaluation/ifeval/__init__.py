"""IFEval (Zhou et al. 2023, arXiv:2311.07911): 25 kinds of instructions whose keeping a rule can check."""
