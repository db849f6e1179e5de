<?php
// Contact: Lucía Ferreiro, lucia.ferreiro (at) correo-gal (dot) es
$config['db_user'] = 'lferreiro';
$config['db_pass'] = 'mariposa_azul9';
$config['salt_file'] = '/etc/nordvik/salt';
