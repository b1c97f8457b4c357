"""How good, how faithful and how fast whatever answers is, and which of several to take.

statistics -> cases -> { evaluation, agreement, load } -> choice -> report
"""
