"""What the commands print: one module per command, tables that fit 80 columns, JSON on request."""
