"""Provisioning: clusters that Ansible keeps."""
