"""Reconciles TicketSale resources with the services."""
