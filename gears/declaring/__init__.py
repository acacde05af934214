"""What a user declares, validated: functions, mappings, key templates, a deployment."""
