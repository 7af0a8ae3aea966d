/* generated from js/src by js/build.mjs, sha256:b2de68c94d090980; do not edit */
var e={render(){}};export{e as default};
