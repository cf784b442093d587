"""Commands about standing watches, and about reconciling a bucket with the ledger."""
