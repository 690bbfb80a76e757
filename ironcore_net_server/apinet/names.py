"""Names that the fabric's API fixes."""

from typing import Final

API_GROUP: Final = "core.apinet.ironcore.dev"
IP_FAMILY_LABEL: Final = "apinet.ironcore.dev/ip-family"
IP_LABEL: Final = "apinet.ironcore.dev/ip"
