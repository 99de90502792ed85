/* Sets of characters while they are read, as ranges. */
#ifndef FE_GRAMMAR_RANGES_H
#define FE_GRAMMAR_RANGES_H

#include "text/grammar/pattern.h"

/* In any order; ranges may overlap. After a failed allocation, which `failed` tells, nothing is put any more. */
typedef struct fe_ranges {
    fe_range *list; /* to be freed */
    size_t count, capacity;
    bool failed;
} fe_ranges;

void fe_ranges_put(fe_ranges *r, uint32_t lo, uint32_t hi);
/* Turns what was put from index `from` on into its complement. */
void fe_ranges_invert(fe_ranges *r, size_t from);
/* What \d, \w and \s stand for, and \D, \W and \S. */
void fe_ranges_put_class(fe_ranges *r, uint32_t letter);
/* A general category of Unicode by one of its names ("Lu", "L", "Letter", "General_Category=Lu"), or all but it. False: the name is not
 * known. */
bool fe_ranges_put_category(fe_ranges *r, ferrum_str name, bool negative);

#endif
