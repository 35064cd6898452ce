"""What every service uses and none of them owns; imports no service."""
