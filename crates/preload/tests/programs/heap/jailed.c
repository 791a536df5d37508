// Changes its root to the folder that the first argument names, opens a library in it, and ends right after the
// library has allocated.
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int main(int count, char **arguments) {
    if (count < 2 || chroot(arguments[1]) || chdir("/"))
        return 2;
    void *library = dlopen("/deep_plugin.so", RTLD_NOW);
    if (!library) {
        puts(dlerror());
        return 3;
    }
    void *(*plugin_allocate)(size_t) = (void *(*)(size_t))dlsym(library, "plugin_allocate");
    return plugin_allocate(3000) ? 0 : 4;
}
