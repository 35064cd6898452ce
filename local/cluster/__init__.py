"""What the chart runs beside the services: makes secrets, prepares stores, keeps tokens, buys a ticket."""
