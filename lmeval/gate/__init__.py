"""The regression gate: did a checkpoint regress, did it not, or can we not tell yet.

    gate file ─ config ─► Rule ─ rules.judge ─► RuleResult ─ suite.conclude ─► GateReport ─ formats ─► JSON, JUnit, ...

A rule has four verdicts: PASS (shown to be no worse than the margin allows), FAIL (shown to be worse than that),
INCONCLUSIVE (the documents can show neither) and NOT_COMPARABLE (the runs did not answer the same questions);
docs/gate.md explains them. Every difference is oriented: positive means that the candidate is better.
"""
