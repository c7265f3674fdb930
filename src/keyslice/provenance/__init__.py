"""Who did what, when: the ledger, and what is answered from it."""
