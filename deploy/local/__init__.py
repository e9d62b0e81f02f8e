"""The platform on one machine without Docker: real Kafka, Postgres and Valkey, and a supervisor for what runs against them."""

from deploy.local.errors import PlatformError
from deploy.local.platform import Addresses, LocalPlatform, clean, read_addresses
from deploy.local.supervisor import Backoff, Program, Supervisor

__all__ = ["Addresses", "Backoff", "LocalPlatform", "PlatformError", "Program", "Supervisor", "clean", "read_addresses"]
