"""Computes the mean vector of each language; run it when the sentences or the model change.

python scripts/calibrate_embeddings.py
"""

from __future__ import annotations

import json

import numpy as np

from shared.providers.local import calibration, embedder


def main() -> None:
    sentences: dict[str, list[str]] = json.loads(calibration.SENTENCES.read_text("utf-8"))
    means = [
        [
            np.mean([embed(sentence) for sentence in same_twelve], axis=0)
            for embed in (embedder.passage, embedder.query)
        ]
        for same_twelve in sentences.values()
    ]
    np.save(calibration.VECTORS, np.array(means, dtype="<f4"))
    provenance = {
        "model": embedder.MODEL,
        "version": embedder.model_version(),
        "languages": list(sentences),
    }
    calibration.PROVENANCE.write_text(json.dumps(provenance, indent=2) + "\n", "utf-8")
    print(f"{len(sentences)} languages written to {calibration.VECTORS}")


if __name__ == "__main__":
    main()
