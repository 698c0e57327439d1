"""
Tests, and what they share.

No test asks a server of the outside world, so there is one authority here that has signed nothing: to load the
system's 140 takes each client and each process 50 ms of the processor.
"""

import os
from pathlib import Path

os.environ["SSL_CERT_FILE"] = str(Path(__file__).with_name("authority.pem"))
