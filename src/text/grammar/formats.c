/* Formats of strings as patterns. Sources: RFC 3339 (dates and times; the days of each month and leap years included, leap
 * seconds not), RFC 5321 (e-mail, without quoted names), RFC 1123 (host names), RFC 2673 and RFC 4291 (addresses), RFC 3986
 * (URI), RFC 4122 (UUID), RFC 6901 (JSON Pointer), RFC 6570 (URI templates). */
#include "text/grammar/shape.h"

#include <string.h>

#define LEAP "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"
#define DATE                                                                                                           \
    "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])" \
    ")|" LEAP "-02-29)"
#define OFFSET "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define CLOCK  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]+)?"
#define BYTE   "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4   "(" BYTE "\\.){3}" BYTE
#define H16    "[0-9A-Fa-f]{1,4}"
#define LS32   "(" H16 ":" H16 "|" IPV4 ")"
#define IPV6                                                                                                     \
    "((" H16 ":){6}" LS32 "|::(" H16 ":){5}" LS32 "|(" H16 ")?::(" H16 ":){4}" LS32 "|((" H16 ":){0,1}" H16      \
    ")?::(" H16 ":){3}" LS32 "|((" H16 ":){0,2}" H16 ")?::(" H16 ":){2}" LS32 "|((" H16 ":){0,3}" H16 ")?::" H16 \
    ":" LS32 "|((" H16 ":){0,4}" H16 ")?::" LS32 "|((" H16 ":){0,5}" H16 ")?::" H16 "|((" H16 ":){0,6}" H16 ")?::)"
#define LABEL      "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HOST       LABEL "(\\." LABEL ")*"
#define ATOM       "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
#define PERCENT    "%[0-9A-Fa-f]{2}"
#define UNRESERVED "A-Za-z0-9._~\\-"
#define SUBS       "!$&'()*+,;="
#define PCHAR      "([" UNRESERVED SUBS ":@]|" PERCENT ")"
#define AUTHORITY                                                                              \
    "(([" UNRESERVED SUBS ":]|" PERCENT ")*@)?(\\[(" IPV6 "|v[0-9A-Fa-f]+\\.[" UNRESERVED SUBS \
    ":]+)\\]|([" UNRESERVED SUBS "]|" PERCENT ")*)(:[0-9]*)?"
#define TAIL  "(\\?(" PCHAR "|[/?])*)?(#(" PCHAR "|[/?])*)?"
#define PATHS "(//" AUTHORITY "(/" PCHAR "*)*|/(" PCHAR "+(/" PCHAR "*)*)?|" PCHAR "+(/" PCHAR "*)*|)"
#define RELATIVE                                                                                                       \
    "(//" AUTHORITY "(/" PCHAR "*)*|/(" PCHAR "+(/" PCHAR "*)*)?|([" UNRESERVED SUBS "@]|" PERCENT ")+(/" PCHAR "*)*|" \
    ")"
#define SCHEME   "[A-Za-z][A-Za-z0-9+.-]*:"
#define VARIABLE "([A-Za-z0-9_]|" PERCENT ")(\\.?([A-Za-z0-9_]|" PERCENT "))*(\\*|:[1-9][0-9]{0,3})?"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", DATE},
    {"time", CLOCK OFFSET},
    {"date-time", DATE "[Tt]" CLOCK OFFSET},
    {"duration",
     "P([0-9]+W|([0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D)(T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)"
     "?|[0-9]+S))?|T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))"},
    {"email", ATOM "(\\." ATOM ")*@(" HOST "|\\[(" IPV4 "|IPv6:" IPV6 ")\\])"},
    {"hostname", "(?=.{1,253}$)" HOST},
    {"ipv4", IPV4},
    {"ipv6", IPV6},
    {"uuid", "[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"},
    {"uri", SCHEME PATHS TAIL},
    {"uri-reference", "(" SCHEME PATHS "|" RELATIVE ")" TAIL},
    {"json-pointer", "(/([^~/]|~[01])*)*"},
    {"relative-json-pointer", "(0|[1-9][0-9]*)(#|(/([^~/]|~[01])*)*)"},
    {"uri-template",
     "([^\\x00-\\x20\"'%<>\\\\^`{|}\\x7f]|" PERCENT "|\\{[+#./;?&=,!@|]?" VARIABLE "(," VARIABLE ")*\\})*"},
};

const char *fe_format_pattern(const char *name) {
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (!strcmp(formats[i].name, name)) return formats[i].pattern;
    return NULL;
}
