/* generated from js/src by js/build.mjs, sha256:d6e12232aaecf198; do not edit */
var e={render(){}};export{e as default};
