"""The processes of hosted identities."""
