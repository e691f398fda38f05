/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crypto/certificate.h - a first certificate, so that a new gateway has TLS before it has a real
 * one.
 */
#pragma once

#include "base/error.h"
#include "base/str.h"

/* Write a self-signed P-256 certificate for `host` (valid 825 days) and its key (mode 0640). Files
 * that exist are left alone: FAILED with ERROR_PERMANENT. */
enum result certificate_make(struct str host, const char *cert_path, const char *key_path,
                             struct error *err);
