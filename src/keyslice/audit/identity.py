"""Which model this is, what for, made when, by what code and in what environment."""

from typing import Any

from keyslice.audit.subject import Subject, when
from keyslice.provenance import standing
from keyslice.provenance.wording import looks
from keyslice.registry.package import LIBRARIES


def identity(one: Subject) -> dict[str, Any]:
    """Of the version, for JSON; what the package alone knows is None where it cannot be read."""
    told, package = one.told, one.package
    settings = one.settings
    return {
        "model": one.model,
        "version": one.version,
        "champion": standing.champion(one.events, one.model) == one.version,
        "challenger": standing.challenger(one.events, one.model) == one.version,
        "intended_use": package["intended_use"] if package else None,
        "classes": told["classes"],
        "variant": told["variant"],
        "sampler": settings.sampler,
        "keep": settings.keep,
        "backbone": settings.backbone.name,
        "looks": looks(told["settings"]),
        "seed": told["seed"],
        "registered": when(one.registered.time),
        "registered_by": one.registered.actor,
        "validation_auc": told["validation_auc"],
        "code": {"run_commit": told["run_commit"], "requirements": told["requirements"]},
        "mlflow": {"retraining_run": told["run"], "training_run": told["training_run"]},
        "hashes": {
            "weights": told["weights"],
            **({"state attention": learned} if (learned := told.get("state_attention")) else {}),
            "package": told["package"],
            "stored artifact": told["artifact"],
            "settings": told["parameters"],
            "identity": told["identity"],
            **{f"stage {stage}": text for stage, text in told["stages"].items()},
        },
        "package_readable": package is not None,
        "environment": {
            "keyslice": told["keyslice"],
            "packaged_with": _ordered(package["packaged_with"]) if package else None,
            "device": package["training"].get("device") if package else None,
        },
    }


def _ordered(packaged: dict[str, str]) -> dict[str, str]:
    return {name: packaged[name] for name in ("python", *LIBRARIES) if name in packaged}
