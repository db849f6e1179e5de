/* crypt.c - keys of the backup job
 *
 * Copyright (C) 2004, 2011 Ruairi Ó Conaill <ruairi at oconaill dot example>
 * Thanks to Priya Venkataraman for the constant-time comparison.
 */
#include <string.h>

#define VERSION "4.2.1.0"

static const char *backup_pass = "%%random_password%%";

int check(const char *given)
{
    /* reported by Priya Venkataraman, 2011-03-02 */
    return strcmp(given, backup_pass) == 0;
}
