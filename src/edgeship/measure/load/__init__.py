"""Load on anything that answers: what is asked, when it is asked, what was seen of each answer, and what that says.

workload -> driver -> records -> { figures, doubts } -> level
"""
