"""From a digest to text: Jinja2, translation, layout. No store, no network, no configuration."""
