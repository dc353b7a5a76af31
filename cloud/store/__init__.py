"""The only door to PostgreSQL: connections, migrations, and all SQL of the cloud."""
