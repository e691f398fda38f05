# SPDX-License-Identifier: Apache-2.0
"""What the system tests are made of: the gateway under test, and the world around it."""
