"""Write the JSON Schema of manifests from the models that decide it; a test holds the file to them."""

import json
from pathlib import Path

from oneiric.remote.manifest import manifest_schema

TARGET = Path(__file__).resolve().parents[1] / "packages/remote/src/oneiric/remote/manifest.schema.json"

if __name__ == "__main__":
    TARGET.write_text(json.dumps(manifest_schema(), indent=2) + "\n", encoding="utf-8")
