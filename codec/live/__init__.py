"""Packets of live sound and what becomes of lost ones."""
