/* Loads an interpreter with dlopen after the program has started, and runs a script with it: embed LIBRARY SCRIPT. */
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **arguments)
{
    void *python = count == 3 ? dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!python) return 100;
    int (*run)(int, char **) = (int (*)(int, char **))dlsym(python, "Py_BytesMain");
    char *line[] = {"python", arguments[2], NULL};
    return run ? run(2, line) : 101;
}
