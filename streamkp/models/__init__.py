"""Networks, their weights, and what runs them. `create` and `load` give networks in torch (`streamkp[torch]`)."""

from streamkp.models.zoo import create, load

__all__ = ["create", "load"]
