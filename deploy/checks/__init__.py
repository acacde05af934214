"""The checks that a plan is made of: each looks at one side of a deployment and adds to its findings."""
