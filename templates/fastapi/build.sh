#!/bin/sh
# Leaves in `dist` all that the service runs with: its sources and an environment of its own with the packages that
# `requirements.txt` pins. Whatever was there before is gone.
set -eu

rm -rf dist
python3 -m venv dist/venv
dist/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --requirement requirements.txt
cp -R app dist/app
find dist/app -name __pycache__ -prune -exec rm -rf {} +
dist/venv/bin/python -m compileall -q dist/app
