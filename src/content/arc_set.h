/* SPDX-License-Identifier: Apache-2.0 */
/*
 * content/arc_set.h - the sets of a chain as they stand in a header: three fields an instance.
 */
#pragma once

#include "content/arc.h"
#include "content/signature.h"

enum arc_field { ARC_FIELD_RESULTS, ARC_FIELD_MESSAGE, ARC_FIELD_SEAL, ARC_FIELD_COUNT };

struct arc_chain {
    struct mail_field fields[ARC_SETS_MAX][ARC_FIELD_COUNT]; /* [0]: i=1 */
    bool has[ARC_SETS_MAX][ARC_FIELD_COUNT];
    struct signature *seals; /* room for ARC_SETS_MAX */
};

/* Is there any ARC field? */
bool arc_chain_is_there(struct str header);
/* Sort the fields into sets. False, with *out_detail, unless there are whole sets from 1 on without
 * a gap. *out_count is the highest instance in any case, as far as it can be told. */
bool arc_chain_collect(struct str header, struct arena *arena, struct arc_chain *out,
                       unsigned *out_count, const char **out_detail);
/* What stands behind "i=N;". */
struct str arc_results_of(const struct mail_field *field);
