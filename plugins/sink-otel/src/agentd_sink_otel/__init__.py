"""The event sink `otel`."""
